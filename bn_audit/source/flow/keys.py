"""Which entries are combined: the loop that goes over them, in the function that combines or in one that calls it."""

from __future__ import annotations

import libcst as cst

from bn_audit.source.flow.combining.averaging import Averaging
from bn_audit.source.flow.follow import Follower
from bn_audit.source.flow.loops import Loop, loops_around
from bn_audit.source.flow.values import Env
from bn_audit.source.flow.variables import argument_at

__all__ = ["keys_of"]


def keys_of(follower: Follower, averaging: Averaging, env: Env) -> tuple[Loop, Env] | None:
    """The loop over the keys of entries, and the run of the scope that it stands in; None if there is none, or it is
    not found."""
    if averaging.keys is not None:
        return averaging.keys, env
    name, current = averaging.key, env
    while name and current.call is not None and current.caller is not None:
        names = [param.name.value for param in current.scope.parameters]
        if name not in names:
            return None
        place = names.index(name) - (1 if current.receiver is not None else 0)
        given = argument_at(current.call, place, name)
        if not isinstance(given, cst.Name):
            return None
        name = given.value
        for loop in reversed(loops_around(follower.index(current.caller.module), current.call)):
            if name in loop.names:
                return loop, current.caller
        current = current.caller
    return None
