"""One runner per kind of artefact: predicted beside observed."""
