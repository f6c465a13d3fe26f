"""The docs site: pages of docs/, and reference pages made from the code, put together for zensical."""
