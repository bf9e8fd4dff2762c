"""What the tests share: tiny models, fake workers, sites, browsers, hubs and proxies."""
