"""Speed and cost: both twins side by side, against peers, and against the plain code of the published experiment."""
