"`python -m fastproaudio.cli`: the command `fastproaudio`."
import sys

from .run import main

if __name__ == '__main__': sys.exit(main())
