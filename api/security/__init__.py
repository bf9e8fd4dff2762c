"""The security between the network and the routes: middleware, trusted hosts, identity, auth, limits, proxies."""
