"""The E2B cloud as a runtime: a fresh sandbox for each run, killed after it.

    runtime.py  what it takes, what runs, whether its key works       run.py      one run
    cloud.py    the SDK: what is asked of E2B, what failures mean     frames.py   what the guest says
    inside/     uploaded: the guest, which runs the program           endings.py  what a run came to

Nothing is kept ready, since E2B is paid by the second. The sandbox's own time-out at E2B is the lease: should this
process die, E2B ends it, and `sandboxes.orphans` sooner.
"""
