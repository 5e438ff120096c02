"""``python -m posterior_collapse.diagnose means.npz``; the function of this name is in diagnosis.

A module of its own, as the command is to be called what the function is called.  Do not import it:
it would take the function's place in the package.
"""

import sys

from posterior_collapse.diagnosis.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
