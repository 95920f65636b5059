"""Where a model comes from: a folder, the hub, or an object that wraps one."""
