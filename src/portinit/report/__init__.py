"""One HTML page that shows how a model starts: needs the extra ``report``."""

from portinit.report.page import page as page
from portinit.report.study import Study as Study
from portinit.report.study import study as study
