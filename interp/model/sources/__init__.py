"""Find the model that a user means: in a folder, on the hub, or inside an object that wraps one."""
