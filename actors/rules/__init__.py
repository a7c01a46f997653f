"""What each order does to a book, one file per kind of order. Pure: no await, no database, no clock."""
