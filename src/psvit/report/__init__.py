"""Figures as people read them: units in words, tables that fit 80 columns."""
