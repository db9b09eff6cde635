"""Porting traps, planted one by one and in pairs: nets in PyTorch, and ports as pure functions of JAX with faults."""
