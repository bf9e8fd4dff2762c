"""The page: gradio Blocks over the studio, and in `page/` what the browser runs. No torch here."""
