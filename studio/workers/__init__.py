"""Ways to run the engine: `inline` in this process, `process` in a spawned one."""
