"""Where a value comes from: a backward search through assignments, calls, attributes and containers of a project.

The interpreter runs what an FLModel call rests on, in order. A federation is spread wider than that: states are
collected in lists, kept in attributes of servers and clients, handed through methods. Here an expression is followed
back to all that may have made it, without regard for how often loops run: which model's state is it, and is that model
one of several? What is found is a set of possible origins, each with its trail.
"""
