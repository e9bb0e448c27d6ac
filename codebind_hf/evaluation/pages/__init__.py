"""Pages that people read: findings first, pictures, items one sees and hears, numbers at the end."""
