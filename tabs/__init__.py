"""The page: gradio Blocks over the studio, and in `page/` what the browser runs. No torch here."""

from tabs.stub_guard import skip_component_stubs

skip_component_stubs()
