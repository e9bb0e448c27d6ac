"""The command `codebind`: flags and their checks, over what the other rooms do; one module a command."""
