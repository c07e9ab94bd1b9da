"""The sandbox daemon: one per machine, it owns the sandboxes and hands out none twice.

    client --Unix socket--> server -> pools -> slots      one slot serves one run, then dies
                                        |
                              bubblewrap: zygote -> slot: init (pid 1) -> the program

Plain Python: no Django, no secrets, nothing of ours but `sandboxes.limits`.
"""
