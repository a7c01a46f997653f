"""`wallet prove`: break everything, again and again, under real load, and see from the clients' side what was lost."""
