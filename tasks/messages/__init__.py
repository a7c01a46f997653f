"""What people are told: letters owed in the commit they tell of, and sent by a worker as email or SMS."""
