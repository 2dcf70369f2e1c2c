"""Where the states of several parties become one: loops and comprehensions that add up the same entry of each.

What is looked for is a shape, whatever the names: an expression goes over entries (by key, by position, or as
parameters) *and* over parties, and what it adds is the entry of the party in hand, to something that is not the
party's own. Both loops may stand in either order, be comprehensions, or lie behind names bound inside them. An
exponential average over time has no loop over parties, and noise that is added to each party's state goes to the
party's own.

Whether these are states of models at all, and whose, is for the follower to find out.
"""
