"""A finished study as one HTML file that needs nothing else: no network, no second file, no server."""

from lepton_dse.report.study_report.page import study_html

__all__ = ["study_html"]
