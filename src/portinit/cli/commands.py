"""The command line with all its commands."""

from portinit.cli import completion as completion
from portinit.cli import doctor as doctor
from portinit.cli import init as init
from portinit.cli import matching as matching
from portinit.cli import models as models
from portinit.cli import report as report
from portinit.cli import traces as traces
from portinit.cli import verify as verify
from portinit.cli.app import portinit as portinit
