#!/usr/bin/env python3
"""Run a command of the product: `python3 manage.py up`, `python3 manage.py test`, ..."""

import os
import sys

from ntd_site import bootstrap

if __name__ == "__main__":
    bootstrap.enter_environment(sys.argv)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "ntd_site.settings")
    if sys.argv[1:2] == ["test"]:
        from ntd_site import testing

        sys.exit(testing.main(sys.argv[2:]))
    from ntd_site import commands

    commands.run(sys.argv)
