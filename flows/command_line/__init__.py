"""The commands as they are typed: names, groups, options, help and examples."""
