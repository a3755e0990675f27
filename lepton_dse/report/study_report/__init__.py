"""A finished study as one HTML file that needs nothing else: no network, no second file, no server."""

from lepton_dse.report.study_report.details import Details, details_of
from lepton_dse.report.study_report.page import study_html

__all__ = ["Details", "details_of", "study_html"]
