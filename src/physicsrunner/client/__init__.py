"""Our side of the wire: http.py is one request, uplink.py what a runner needs of a server."""
