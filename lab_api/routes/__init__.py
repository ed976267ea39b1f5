"""The API's routes, one noun for each module."""
