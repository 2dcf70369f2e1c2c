"""In which mode models are where they are run: the program is gone through from where it begins.

A module is in train mode when it is made, and after that in the mode it was last put into. So statements are gone
through in their order, calls into the project are entered, branches are joined, loops are gone through until nothing
changes, and where the model is called the modes are noted that it may have there. What a framework calls (a client's
``fit`` and ``evaluate``) comes in any order and any number of times.

Values are not computed: which objects an expression may stand for is the follower's answer. What cannot be followed
makes the mode unclear, and an unclear mode is no evidence of anything.
"""
