"""The OpenAPI document and its viewers."""
