"""What each request used: one event per request, through one queue to one writer."""
