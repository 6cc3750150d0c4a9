"""The command `rbdcsi`: one file a command. It may import everything else."""
