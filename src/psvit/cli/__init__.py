"""The command `psvit`: it reads options, calls the stages, and prints. The story is elsewhere."""
