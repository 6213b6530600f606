"""What stays of requests because somebody asked for it: responses to continue, and captured bodies."""
