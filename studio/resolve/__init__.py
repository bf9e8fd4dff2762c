"""From what was asked (a draft) to what will be done (a recipe): names found, gaps filled, conflicts refused."""
