"""A replication of "Learning Deep ResNet Blocks Sequentially using Boosting Theory" (Huang et al., ICML 2018)."""
