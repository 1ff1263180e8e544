"""The API's calls, grouped by what they are about."""
