"""How often the diagnosis is right: many runs whose truth is known, healthy and faulty, judged by it and by others."""
