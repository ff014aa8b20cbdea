"""Tables, figures and the page of a study. Import the modules by name: only some load matplotlib."""
