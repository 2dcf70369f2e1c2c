"""Settings: from configuration files, nearest to each scanned file, and from flags, which win.

Everything here is a function of files and flags. A :class:`bn_audit.settings.resolver.Resolver` remembers what it read;
to read the files anew, make a new one.
"""
