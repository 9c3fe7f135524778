"""What the service manager gives and hears: sockets, journal, notifications, the status line."""
