"""Programs that run inside sandboxes. Each is sent whole as an execution's code, so it imports nothing of ours."""
