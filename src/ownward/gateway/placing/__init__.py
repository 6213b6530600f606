"""Where a request may go, where it goes, and when it goes elsewhere."""
