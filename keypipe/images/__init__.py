"""Image files and their pixels: headers, decoding, videos, damage and likeness."""
