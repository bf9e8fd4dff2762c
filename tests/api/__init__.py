"""Tests of api/: the guard, the routes, the words of refusals."""
