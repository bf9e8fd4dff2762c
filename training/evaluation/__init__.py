"""How the starter set is judged: the judge, measures, and the rows of the table."""
