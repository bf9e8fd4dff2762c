"""REST over the Studio, and the middleware in front of everything that is served.

Knows starlette and FastAPI; knows no gradio, no torch and no SQL. Start with `app.py`, then `security/middleware.py`.
"""
