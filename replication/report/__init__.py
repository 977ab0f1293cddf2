"""Tables, figures and the article, made from the published `results/` alone: no torch, no training, no network."""
