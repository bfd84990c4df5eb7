"""What people are asked, what they answer, and what that is worth."""
