"""What a flex template's launcher starts: it takes a file, not a module, and puts that file's folder on Python's path.

The pipeline itself is installed in the image as the package `beam`; started as a file of its own folder, its modules would
shadow others of the same name.
"""

import sys

from beam.babyweight import main

if __name__ == "__main__":
    sys.exit(main())
