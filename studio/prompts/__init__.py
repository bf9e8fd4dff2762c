"""What helps to write prompts: tags to complete, styles, wildcards. All are text files that people edit by hand."""
