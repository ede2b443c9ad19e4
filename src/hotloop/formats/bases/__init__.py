"""What several families do alike. A family takes what it needs by the module's name; none of these knows a family."""
