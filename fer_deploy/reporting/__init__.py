"""What people look at after a run: a page for the browser, pictures with boxes drawn in, sorted copies."""
