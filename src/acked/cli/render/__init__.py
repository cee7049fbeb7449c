"""Making text of what was read. Nothing here touches a broker."""
